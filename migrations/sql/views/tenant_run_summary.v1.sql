-- run_summary within the tenant that was entered.
CREATE VIEW persistence.tenant_run_summary WITH (security_barrier) AS
SELECT rs.*
FROM persistence.run_summary AS rs
WHERE rs.tenant_id = persistence.entered_tenant();
