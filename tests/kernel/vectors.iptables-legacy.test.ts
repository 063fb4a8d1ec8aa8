import { describeVectors } from "./vectors-suite.ts";

describeVectors({ backend: "iptables", variant: "legacy" }, "routed");
