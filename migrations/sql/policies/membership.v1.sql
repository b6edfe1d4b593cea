-- The membership table itself, which the other policies read: one's own membership of the tenant that was entered.
ALTER TABLE persistence.user_tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE persistence.user_tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON persistence.user_tenants
  USING (tenant_id = persistence.current_tenant_id() AND user_id = persistence.current_user_id());
CREATE POLICY auditor_reads ON persistence.user_tenants FOR SELECT TO persistence_auditor USING (true);
