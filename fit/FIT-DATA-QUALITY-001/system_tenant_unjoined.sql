-- title: Nobody belongs to the system tenant, and nobody has a token for it
-- section: 2.1
-- law: CANON-ORCH-STATE-001 §9.1
-- severity: error
-- means: Somebody can read what was done to the whole cluster, or write a history of it.
-- remedy: Find out who let them in (the tenant's log). Remove the membership: persistence tenant remove-user; revoke the token: persistence token revoke.
SELECT 'user_tenants ' || u.tenant_id || ' ' || u.user_id AS object, 'joined by ' || u.actor || ' at ' || u.created_at AS detail
FROM persistence.user_tenants AS u
WHERE u.tenant_id = (SELECT (r.value #>> '{}')::uuid FROM canon.rules AS r WHERE r.name = 'system_tenant')
UNION ALL
SELECT 'api_tokens ' || t.id, t.name || ', as ' || t.acts_as
FROM persistence.api_tokens AS t
WHERE t.tenant_id = (SELECT (r.value #>> '{}')::uuid FROM canon.rules AS r WHERE r.name = 'system_tenant')
