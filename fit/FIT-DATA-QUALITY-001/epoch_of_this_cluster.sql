-- title: The log's epoch is that of this cluster, and epochs follow each other
-- section: 2.2
-- law: CANON-PERSISTENCE-001 §8.3
-- severity: error
-- means: The database was restored here, and readers' positions mean other transactions than they did.
-- remedy: SELECT persistence.log_epoch() as a service, before readers and workers go on.
SELECT 'epoch ' || l.epoch AS object, 'opened in cluster ' || l.system_identifier || ', this is ' || s.system_identifier AS detail
FROM canon.log_epochs AS l
CROSS JOIN pg_control_system() AS s
WHERE l.epoch = (SELECT max(x.epoch) FROM canon.log_epochs AS x)
  AND l.system_identifier <> s.system_identifier
UNION ALL
SELECT 'epoch ' || l.epoch, 'begins at sequence number ' || l.first_sequence_number || ', the one before it at ' || l.previous
FROM (SELECT x.*, lag(x.first_sequence_number) OVER (ORDER BY x.epoch) AS previous FROM canon.log_epochs AS x) AS l
WHERE l.previous > l.first_sequence_number
