-- Run once, on the first start of the composed server: the login that services and workers use, with none of the administrator's rights.
\getenv password PERSISTENCE_SERVICE_PASSWORD
CREATE ROLE persistence_service LOGIN PASSWORD :'password';
CREATE ROLE persistence_app NOLOGIN;
CREATE ROLE persistence_worker NOLOGIN;
CREATE ROLE persistence_operator NOLOGIN;
GRANT persistence_app, persistence_worker, persistence_operator TO persistence_service;
