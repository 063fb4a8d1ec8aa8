/** `compilePattern` with all that it needs at hand, for programs that start once: the control service, tests. */

import { compilePattern, loadRe2 } from "./pattern.ts";

await loadRe2();

export { compilePattern };
