-- Run once, on the first start of the composed server: the login that services and workers use, and the one that gates and metrics read all tenants with; neither has
-- any of the administrator's rights.
\getenv password PERSISTENCE_SERVICE_PASSWORD
CREATE ROLE persistence_service LOGIN PASSWORD :'password';
CREATE ROLE persistence_app NOLOGIN;
CREATE ROLE persistence_worker NOLOGIN;
CREATE ROLE persistence_operator NOLOGIN;
GRANT persistence_app, persistence_worker, persistence_operator TO persistence_service;
\getenv audit PERSISTENCE_AUDIT_PASSWORD
CREATE ROLE persistence_audit LOGIN PASSWORD :'audit';
CREATE ROLE persistence_auditor NOLOGIN;
GRANT persistence_auditor TO persistence_audit;
