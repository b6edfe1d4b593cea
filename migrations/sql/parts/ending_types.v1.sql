-- Types of events that end what may have parts (canon.event_types.ends), as a pattern: it is asked before the canon is.
^(RUN|STEP)_(COMPLETED|FAILED|CANCELLED|SKIPPED|RECORDED)$
