export type GoProgram = "apiserver" | "helm-template";
export function goProgramPath(name: GoProgram): string;
export function haveGoPrograms(): boolean;
export function buildKubernetesApiServer(): Promise<boolean>;
