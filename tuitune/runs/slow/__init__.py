"""Why a run is slow: what its journal says of where the time goes (tally), what that costs and what to do about it (findings)."""
