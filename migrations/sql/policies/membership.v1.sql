-- The membership table itself: one's own membership of the tenant that was entered.
ALTER TABLE persistence.user_tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE persistence.user_tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON persistence.user_tenants
  USING (tenant_id = persistence.entered_tenant() AND user_id = persistence.current_user_id());
CREATE POLICY auditor_reads ON persistence.user_tenants FOR SELECT TO persistence_auditor USING (true);
