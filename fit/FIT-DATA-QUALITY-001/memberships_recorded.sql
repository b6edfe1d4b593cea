-- title: Every tenant and every membership was recorded, with who made it and when
-- section: 2.4
-- law: CANON-PERSISTENCE-001 §4.6
-- severity: error
-- means: Somebody was let into a tenant past the functions, or a recorded tenant or member is gone.
-- remedy: Ask who did it. End a membership that nobody recorded with persistence tenant remove-user, end and add again one that is recorded and gone.
WITH recorded AS (
  SELECT e.*
  FROM persistence.tenants AS t
  JOIN persistence.orchestration_events AS e ON e.tenant_id = t.tenant_id AND e.aggregate_id = t.tenant_id
)
SELECT 'tenants ' || t.tenant_id AS object, 'no TENANT_CREATED of this name, actor and time' AS detail
FROM persistence.tenants AS t
LEFT JOIN recorded AS e
  ON e.tenant_id = t.tenant_id
  AND e.event_type = 'TENANT_CREATED'
  AND e.event_data ->> 'name' = t.name
  AND e.actor = t.actor
  AND e.created_at = t.created_at
  AND e.created_at = t.updated_at
WHERE e.id IS NULL
UNION ALL
SELECT
  'user_tenants ' || coalesce(u.tenant_id, e.tenant_id) || ' ' || coalesce(u.user_id::text, e.event_data ->> 'user_id'),
  CASE WHEN u.user_id IS NULL THEN 'recorded, but not there' ELSE 'no TENANT_USER_ADDED of this user, actor and time' END
FROM persistence.user_tenants AS u
FULL JOIN (
  SELECT r.*
  FROM (
    SELECT DISTINCT ON (m.tenant_id, m.event_data ->> 'user_id') m.*
    FROM recorded AS m
    WHERE m.event_type IN ('TENANT_USER_ADDED', 'TENANT_USER_REMOVED')
    ORDER BY m.tenant_id, m.event_data ->> 'user_id', m.aggregate_version DESC
  ) AS r
  WHERE r.event_type = 'TENANT_USER_ADDED'
) AS e
  ON e.tenant_id = u.tenant_id
  AND (e.event_data ->> 'user_id')::uuid = u.user_id
  AND e.actor = u.actor
  AND e.created_at = u.created_at
  AND e.created_at = u.updated_at
WHERE u.user_id IS NULL OR e.id IS NULL
