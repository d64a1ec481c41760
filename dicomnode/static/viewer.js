// The pictures of the case page. Research, not for clinical use.
"use strict";
