-- title: Every token is what was recorded of it
-- section: 2.5
-- law: CANON-TRACE-001 §6.1
-- severity: error
-- means: Somebody gave, widened or took away access past the functions that record it.
-- remedy: persistence token revoke, and issue another.
SELECT
  format('api_tokens %s of tenant %s', coalesce(t.id, i.token_id), coalesce(t.tenant_id, i.tenant_id)) AS object,
  CASE
    WHEN i.token_id IS NULL THEN 'was never issued'
    WHEN t.id IS NULL THEN 'was issued, and is gone'
    WHEN t.revoked_at IS DISTINCT FROM r.revoked_at THEN format('is revoked at %s; it was at %s', coalesce(t.revoked_at::text, 'no time'), coalesce(r.revoked_at::text, 'no time'))
    ELSE format('is %s as %s until %s; was issued as %s', t.role, t.acts_as, coalesce(t.expires_at::text, 'revoked'), i.event_data)
  END AS detail
FROM persistence.api_tokens AS t
FULL JOIN (
  SELECT e.tenant_id, (e.event_data ->> 'token_id')::uuid AS token_id, e.event_data, e.occurred_at
  FROM persistence.orchestration_events AS e
  WHERE e.aggregate_id = e.tenant_id
    AND e.event_type = 'TENANT_TOKEN_ISSUED'
) AS i ON i.tenant_id = t.tenant_id AND i.token_id = t.id
LEFT JOIN (
  SELECT e.tenant_id, (e.event_data ->> 'token_id')::uuid AS token_id, min(e.occurred_at) AS revoked_at
  FROM persistence.orchestration_events AS e
  WHERE e.aggregate_id = e.tenant_id
    AND e.event_type = 'TENANT_TOKEN_REVOKED'
  GROUP BY e.tenant_id, e.event_data ->> 'token_id'
) AS r ON r.tenant_id = coalesce(t.tenant_id, i.tenant_id) AND r.token_id = coalesce(t.id, i.token_id)
WHERE t.id IS NULL
  OR i.token_id IS NULL
  OR (t.name, t.role, t.acts_as, t.user_id, sha256(t.digest), t.expires_at, t.created_at, t.revoked_at, t.updated_at)
    IS DISTINCT FROM (
      i.event_data ->> 'name', i.event_data ->> 'role', i.event_data ->> 'acts_as', (i.event_data ->> 'user_id')::uuid,
      decode(i.event_data ->> 'digest', 'hex'), (i.event_data ->> 'expires_at')::timestamptz, i.occurred_at, r.revoked_at,
      coalesce(r.revoked_at, i.occurred_at)
    )
