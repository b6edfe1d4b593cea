-- Documents merged in order, later keys winning.
CREATE AGGREGATE persistence.jsonb_merge(jsonb) (
  SFUNC = jsonb_concat,
  STYPE = jsonb
);
