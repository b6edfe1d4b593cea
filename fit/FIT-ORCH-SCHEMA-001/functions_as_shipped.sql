-- title: The functions in the database are those of this version of the package
-- section: 2.8
-- law: CANON-PERSISTENCE-001 §7.4
-- severity: error
-- means: Somebody changed, removed or added a function by hand: what is tested is not what runs.
-- remedy: Run persistence migrate up; where it says the schema is current, make the function again from migrations/sql/functions.
SELECT coalesce(f.name, w.name) AS object, CASE WHEN w.name IS NULL THEN 'is not shipped with the package' WHEN f.name IS NULL THEN 'is missing' ELSE 'has another body' END AS detail
FROM jsonb_to_recordset(:'functions') AS w (name text, body_md5 text)
FULL JOIN (
  SELECT p.proname::text AS name, CASE WHEN p.prosqlbody IS NULL THEN md5(btrim(p.prosrc, E' \n')) END AS body_md5
  FROM pg_proc AS p
  WHERE p.pronamespace = 'persistence'::regnamespace
) AS f ON f.name = w.name
WHERE f.name IS NULL OR w.name IS NULL OR f.body_md5 <> w.body_md5
