/** `npm run typecheck`: every part under the TypeScript project that fits its runtime. */
import { TYPESCRIPT_PROJECTS, typecheck } from "./checks.mjs";

for (const project of TYPESCRIPT_PROJECTS) {
  const { code } = await typecheck(project, { show: true });
  if (code !== 0) process.exitCode = 1;
}
