-- title: Everything in the queue is a pending outbox entry or a dead letter, and says what the entry says
-- section: 2.5
-- law: CANON-EVENTS-001 §4.4
-- severity: error
-- means: Something that is settled would be delivered again, by the wrong handler, or out of turn.
-- remedy: persistence replay --rebuild outbox_queue.
SELECT
  'outbox_queue ' || q.id AS object,
  coalesce(
    format(
      'its entry is %s of type %s, priority %s, key %s, place %s, to %s',
      o.status, o.event_type, o.priority, o.ordering_key, e.sequence_number, o.destination
    ),
    'it has no entry'
  ) AS detail
FROM persistence.outbox_queue AS q
LEFT JOIN persistence.outbox_events AS o ON o.tenant_id = q.tenant_id AND o.id = q.id
LEFT JOIN persistence.effects AS f ON f.tenant_id = q.tenant_id AND f.id = q.id
LEFT JOIN persistence.orchestration_events AS e
  ON o.ordering_key IS NOT NULL AND e.tenant_id = o.tenant_id AND e.aggregate_id = o.id AND e.aggregate_version = 1
WHERE o.id IS NULL
  OR o.status <> CASE q.held_by WHEN 'DEAD_LETTER' THEN 'DEAD_LETTER' ELSE 'PENDING' END
  OR (o.event_type, o.priority, o.destination) IS DISTINCT FROM (q.effect_type, q.priority, q.destination)
  OR (f.is_awaited IS TRUE) <> q.is_awaited
  OR (q.ordering_key, q.position) IS DISTINCT FROM
    CASE WHEN o.status = 'PENDING' OR o.blocks_key THEN ROW(o.ordering_key, e.sequence_number) ELSE ROW(NULL::text, NULL::bigint) END
