"""How cost grows: with topics, with connections, with history. `points` measures, `page` tells and draws."""
