-- Of many tenants at once, where there is something new: an event of the log behind a position that read_events would give, or a message. Side by side:
-- tenants, and the positions that were read to. n: the place in these lists. Whoever may call it learns when something happens in a tenant whose id he
-- knows, and nothing of what.
CREATE FUNCTION persistence.watch_tenants(tenant_ids uuid[], epochs integer[], transactions text[], sequences bigint[])
RETURNS TABLE (n integer, has_events boolean, feed uuid, last bigint, swept_to bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  present CONSTANT integer := log_epoch();
  horizon CONSTANT xid8 := pg_snapshot_xmin(pg_current_snapshot());
BEGIN
  RETURN QUERY
    SELECT
      t.n::integer,
      t.epoch <> present OR EXISTS (
        SELECT
        FROM orchestration_events AS e
        WHERE e.tenant_id = t.tenant_id
          AND (e.transaction_id, e.sequence_number) > (t.transaction_id::xid8, t.sequence_number)
          AND e.transaction_id < horizon
      ),
      f.id, f.last, f.swept_to
    FROM unnest(tenant_ids, epochs, transactions, sequences) WITH ORDINALITY AS t (tenant_id, epoch, transaction_id, sequence_number, n)
    LEFT JOIN live_feeds AS f ON f.tenant_id = t.tenant_id;
END
$$;
