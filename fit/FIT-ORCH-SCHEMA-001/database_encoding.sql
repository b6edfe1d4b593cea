-- title: The database is encoded in UTF-8
-- section: 2.11
-- law: CANON-EVENTS-001 §3.1
-- severity: error
-- means: Event data with characters outside that encoding are refused.
-- remedy: Make the database again with ENCODING 'UTF8', and restore a dump into it.
SELECT d.datname::text AS object, pg_encoding_to_char(d.encoding)::text AS detail
FROM pg_database AS d
WHERE d.datname = current_database()
  AND pg_encoding_to_char(d.encoding) <> 'UTF8'
