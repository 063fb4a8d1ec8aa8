import { describeVectors } from "./vectors-suite.ts";
import { describeInVirtualMachine, hasIpvsHere } from "./vm/in-virtual-machine.ts";

if (await hasIpvsHere()) describeVectors({ backend: "ipvs" }, "routed");
else await describeInVirtualMachine(import.meta.filename);
