-- Asks briefly whether a young log may have doubled; learn_sizes looks closely.
  IF first_number <= 102400 AND (first_number - 1) / 100 < last_number / 100 THEN
    done := learn_sizes(first_number, last_number);
  END IF;
