"""Planted violations of FIT-PERSISTENCE-ABSTRACTION-001, but for queries_use_indexes, which has a test of its own."""

from tests.gates.plants import service

PLANTS = {
    "no_context_no_rows": service(
        "CREATE POLICY open ON persistence.runs FOR SELECT USING (true)", "persistence.runs", "DROP POLICY open ON persistence.runs"
    ),
    "stranger_sees_nothing": service(
        "CREATE POLICY by_tenant ON persistence.steps FOR SELECT USING (tenant_id = persistence.current_tenant_id())",
        "persistence.steps",
        "DROP POLICY by_tenant ON persistence.steps",
    ),
    "service_cannot_write": service(
        "GRANT UPDATE ON persistence.runs TO persistence_worker",
        "persistence.runs",
        "REVOKE UPDATE ON persistence.runs FROM persistence_worker",
    ),
    "service_can_work": service(
        "REVOKE persistence_app FROM persistence_service",
        "SELECT unnest(ARRAY['append_events', 'receive_signals', 'read_events'])",
        "GRANT persistence_app TO persistence_service",
    ),
}
