-- run_summary within the tenant that was entered.
CREATE VIEW persistence.tenant_run_summary WITH (security_barrier) AS
SELECT rs.*
FROM persistence.run_summary AS rs
WHERE rs.tenant_id = (
  SELECT ut.tenant_id
  FROM persistence.user_tenants AS ut
  WHERE ut.tenant_id = persistence.current_tenant_id()
    AND ut.user_id = persistence.current_user_id()
);
