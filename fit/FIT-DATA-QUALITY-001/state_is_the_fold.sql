-- title: State is the fold of the log, row by row and column by column
-- section: 2.4
-- law: CANON-PERSISTENCE-001 §3.3
-- severity: error
-- needs: fold
-- means: A row says something that no event ever said.
-- remedy: persistence replay --verify shows what differs; persistence replay --rebuild restores the table from the log.
SELECT d.table_name || ' ' || d.id AS object, left(d.detail, 500) AS detail
FROM differences AS d
