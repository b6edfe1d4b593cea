-- One policy for all: rows of the tenant that was entered, by a user who belongs to it. No tenant entered, no rows.
ALTER TABLE persistence.{table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE persistence.{table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON persistence.{table} USING (tenant_id = persistence.entered_tenant());
CREATE POLICY auditor_reads ON persistence.{table} FOR SELECT TO persistence_auditor USING (true);
