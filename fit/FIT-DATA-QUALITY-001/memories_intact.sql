-- title: A memory has the digest and the size that the log recorded, and is gone once forgotten
-- section: 2.4
-- law: CANON-MEMORY-001 §2.1
-- severity: error
-- means: An agent would act on what nobody learned, or on what was to be forgotten.
-- remedy: Take the text from a backup, the log holds its digest only; of what was forgotten: UPDATE persistence.memories SET content = NULL, words = NULL.
SELECT 'memories ' || m.id AS object, CASE WHEN m.status = 'FORGOTTEN' THEN 'forgotten, but its text is still there' WHEN m.content IS NULL THEN 'its text is gone' ELSE 'its text, or its words, are others' END AS detail
FROM persistence.memories AS m
WHERE m.updated_at >= :'since'
  AND persistence.in_sample(m.id, :sample)
  AND CASE m.status
    WHEN 'FORGOTTEN' THEN m.content IS NOT NULL OR m.words IS NOT NULL
    ELSE encode(sha256(convert_to(m.content, 'UTF8')), 'hex') IS DISTINCT FROM m.digest
      OR octet_length(convert_to(m.content, 'UTF8')) <> m.size_bytes
      OR m.words IS DISTINCT FROM to_tsvector('simple', m.content)
  END
