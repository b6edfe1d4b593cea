-- The owner of tenant_run_summary reads the projection for it.
GRANT SELECT ON persistence.run_summary TO persistence_owner;
