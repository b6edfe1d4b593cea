-- run_summary within the tenant that was entered.
CREATE VIEW persistence.tenant_run_summary WITH (security_barrier) AS
SELECT rs.*
FROM persistence.run_summary AS rs
WHERE rs.tenant_id = persistence.current_tenant_id()
  AND nullif(rs.tenant_id = (SELECT persistence.entered_tenant()), false) IS NOT NULL;
