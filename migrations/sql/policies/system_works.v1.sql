-- The functions that work across tenants (claim, settle, projections, tenants) run as persistence_system, which nobody can log in as.
CREATE POLICY system_works ON persistence.{table} TO persistence_system USING (true);
