-- title: A saved state has the digest and the size that the log recorded
-- section: 2.4
-- law: CANON-ORCH-STATE-001 §8.1
-- severity: error
-- means: A run would resume from a state that nobody saved.
-- remedy: Take the state from a backup; the log holds its digest only.
SELECT 'run_checkpoints ' || c.id AS object, CASE WHEN c.status = 'DISCARDED' THEN 'discarded, but its state is still there' WHEN c.state IS NULL THEN 'its state is gone' ELSE 'its state is another' END AS detail
FROM persistence.run_checkpoints AS c
WHERE c.updated_at >= :'since'
  AND persistence.in_sample(c.id, :sample)
  AND CASE c.status
    WHEN 'SAVED' THEN encode(sha256(convert_to(c.state::text, 'UTF8')), 'hex') IS DISTINCT FROM c.digest
      OR octet_length(convert_to(c.state::text, 'UTF8')) <> c.size_bytes
    ELSE c.state IS NOT NULL
  END
