-- title: Records of delivered effects do not pile up
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §6.4
-- severity: warning
-- means: Housekeeping does not run: the outbox grows with every effect, for nothing. The log keeps what happened.
-- remedy: persistence housekeeping, or let a worker do it (--housekeeping-interval, --retention).
SELECT 'persistence.outbox_events' AS object, count(*) || ' records of effects that were delivered more than 90 days ago' AS detail
FROM persistence.outbox_events AS o
WHERE o.published_at < now() - interval '90 days'
HAVING count(*) > 0
