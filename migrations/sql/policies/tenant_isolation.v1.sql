-- Logins see the rows of the tenant that was entered, by a user who belongs to it. No tenant entered, no rows.
-- The first comparison lets an index serve, and is no wall: the planner takes it together with what a query says of tenant_id, and may ask either twice. The
-- second one is: nothing can be taken together with it, its subquery is asked once, for all rows, and the planner does not
-- take it for a second condition that leaves few rows.
-- The plane's own functions (nobody logs in as their owner) have looked at who enters before they say which tenant.
ALTER TABLE persistence.{table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE persistence.{table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON persistence.{table} TO persistence_app, persistence_operator
  USING (tenant_id = persistence.current_tenant_id() AND nullif(tenant_id = (SELECT persistence.entered_tenant()), false) IS NOT NULL);
CREATE POLICY functions_work ON persistence.{table} TO persistence_owner USING (tenant_id = persistence.current_tenant_id());
CREATE POLICY auditor_reads ON persistence.{table} FOR SELECT TO persistence_auditor USING (true);
