"""Which tenant this is."""

from persistence.models import Tenant
from persistence.transaction import Transaction

# The tenant that was entered.
_TENANT = "SELECT t.tenant_id, t.name, t.actor, t.created_at, t.updated_at FROM persistence.tenants AS t WHERE t.tenant_id = $1"


async def this_tenant(tx: Transaction) -> Tenant:
    """The transaction's tenant."""
    rows = await tx.fetch(_TENANT, tx.context.tenant_id)
    return Tenant.made(**rows[0])
