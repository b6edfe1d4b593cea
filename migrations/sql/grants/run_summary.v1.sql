-- The owner of tenant_run_summary reads the projection for it; an auditor sees all tenants anyway.
GRANT SELECT ON persistence.run_summary TO persistence_owner, persistence_auditor;
