GRANT SELECT ON persistence.tenant_run_summary TO persistence_app, persistence_operator, persistence_auditor;
