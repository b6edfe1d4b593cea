"""One module a system. What it can do is a function of a common name:

prepare(dsn)                                 make its tables
fill(dsn, count)                             put entries into its queue, as fast as it can
enqueue_one(dsn, callers, seconds)           one entry a transaction; how many
enqueue_batches(dsn, count)                  1,000 entries a transaction
drain(dsn)                                   work off all there is; the handler does nothing
handle(dsn, path, seconds), produce(dsn, path, rate, seconds)   note when handlers begin, and when entries were committed
append(dsn, events, callers, seconds)        events in one transaction; how many transactions
runs(dsn, steps, callers, count)             whole runs, from signal to completion
"""
