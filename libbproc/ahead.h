/*
 * For this project's own commands, which are linked with the archive; the shared
 * library does not have it.
 */
#pragma once

/*
 * The question of the next bproc_nodelist(), or of any call that looks at the nodes, is sent
 * now, and bpslave works on it while the caller does something else. If it cannot be sent,
 * that call says why.
 */
__attribute__((visibility("default"))) void _bproc_ask_nodes(void);

/* The first call in a child of clone() with CLONE_VM: what fork() does with the connections. */
__attribute__((visibility("default"))) void _bproc_cloned(void);
