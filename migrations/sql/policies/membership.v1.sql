-- The membership table itself: one's own membership of the tenant that was entered. See tenant_isolation.
ALTER TABLE persistence.user_tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE persistence.user_tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON persistence.user_tenants TO persistence_app, persistence_operator
  USING (
    tenant_id = persistence.current_tenant_id()
    AND nullif(tenant_id = (SELECT persistence.entered_tenant()) AND user_id = persistence.current_user_id(), false) IS NOT NULL
  );
CREATE POLICY functions_work ON persistence.user_tenants TO persistence_owner
  USING (tenant_id = persistence.current_tenant_id() AND user_id = persistence.current_user_id());
CREATE POLICY auditor_reads ON persistence.user_tenants FOR SELECT TO persistence_auditor USING (true);
