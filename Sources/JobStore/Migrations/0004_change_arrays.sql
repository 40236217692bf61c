-- Long arrays of numbers are stored as they are: to compress them took a tenth of each claim, for a row that is read
-- within milliseconds and removed within minutes.
ALTER TABLE change
    ALTER jobs SET STORAGE EXTERNAL,
    ALTER lanes SET STORAGE EXTERNAL,
    ALTER sequences SET STORAGE EXTERNAL;
