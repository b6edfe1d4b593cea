-- title: The functions in the database are those of this version of the package
-- section: 2.8
-- law: CANON-PERSISTENCE-001 §7.4
-- severity: error
-- means: Somebody changed, removed or added a function by hand: what is tested is not what runs.
-- remedy: Run persistence migrate up; where it says the schema is current, make the function again from migrations/sql/functions.
SELECT coalesce(f.name, w.name) AS object, CASE WHEN w.name IS NULL THEN 'is not shipped with the package' WHEN f.name IS NULL THEN 'is missing' WHEN f.body_md5 IS DISTINCT FROM w.body_md5 THEN 'has another body' ELSE 'has other settings' END AS detail
FROM jsonb_to_recordset(:'functions') AS w (name text, body_md5 text, is_definer boolean, config text[])
FULL JOIN (
  SELECT
    p.proname::text AS name,
    CASE WHEN p.prokind <> 'a' THEN md5(btrim(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), E' \n')) END AS body_md5,
    p.prosecdef AS is_definer,
    ARRAY(SELECT c FROM unnest(p.proconfig) AS c ORDER BY c COLLATE "C") AS config
  FROM pg_proc AS p
  WHERE p.pronamespace = 'persistence'::regnamespace
) AS f ON f.name = w.name
WHERE f.name IS NULL
  OR w.name IS NULL
  OR f.body_md5 IS DISTINCT FROM w.body_md5
  OR f.is_definer <> w.is_definer
  OR f.config <> w.config
