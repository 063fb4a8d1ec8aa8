/** The day itself; `churn.test.ts` is a quarter of an hour of it, and `ipvs.test.ts` has that of IPVS. */
import { describeChurn } from "./churn.ts";

describeChurn("nftables", { services: 1_000, rounds: 500, changesARound: 200 });
describeChurn("iptables-nft", { services: 500, rounds: 100, changesARound: 100 });
