"""The figures of results/README.md, README.md and docs, each with how it follows from committed rows;
a chapter of the results is a file.
"""

from claims import adaptation, banks, forecasts, sampling, studies, tiny

CHAPTERS = (sampling, banks, studies, forecasts, tiny, adaptation)
CLAIMS = tuple(claim for chapter in CHAPTERS for claim in chapter.CLAIMS)
