/** `npm start`: sets up what the edge needs, then runs it over the examples. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { orFail, setUpEdge } from "./main.mjs";
import { environment, root, toolsDirectory } from "./process.mjs";

await orFail(async () => {
  await setUpEdge();
  const child = spawn(
    join(toolsDirectory, "node"),
    [join(root, "examples", "start.ts"), ...process.argv.slice(2)],
    { stdio: "inherit", env: environment() },
  );
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      // In a terminal the child has had its SIGINT already.
      if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
    });
  }
  process.exitCode = await new Promise((resolve) => child.on("exit", (code) => resolve(code ?? 1)));
});
