-- title: Services do not read what is sealed
-- section: 2.7
-- law: CANON-VAULT-001 §3.2
-- severity: error
-- means: A sealed secret or a wrapped key can be had without a trace.
-- remedy: REVOKE SELECT ON … FROM the role; grant the columns that are not sealed.
SELECT format('%s.sealed', t.name) AS object, 'can be read by ' || r.rolname AS detail
FROM (VALUES ('persistence.secrets'), ('persistence.data_keys')) AS t (name)
JOIN pg_roles AS r
  ON has_column_privilege(r.oid, to_regclass(t.name), 'sealed', 'SELECT')
  AND NOT r.rolsuper
  AND NOT pg_has_role(r.oid, 'persistence_auditor', 'USAGE')
  AND r.rolname NOT IN ('persistence_owner', 'persistence_system', 'pg_read_all_data')
  AND NOT pg_has_role(r.oid, 'pg_read_all_data', 'USAGE')
