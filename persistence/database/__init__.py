"""The floor that talks to PostgreSQL: servers, pools, sessions, retries, migrations."""
