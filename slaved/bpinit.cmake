# bpinit: the process engine of one machine. Pid 1 of a node's pid namespace.
add_executable(bpinit bpinit.c bpinit_event.c bpinit_proc.c bpinit_move.c bpinit_ran.c bpinit_leave.c bpinit_gone.c
	bpinit_live.c bpinit_arrive.c bpinit_complete.c bpinit_make.c bpinit_off.c bpinit_cpu.c bpinit_trace.c bpinit_mirror.c bpinit_mark.c
	bpinit_inject.c bpinit_signal.c bpinit_spawn.c bpinit_born.c bpinit_home.c bpinit_reap.c bpinit_check.c bpinit_children.c
	bpinit_later.c bpinit_state.c bpinit_fence.c bpinit_filter.c bpinit_kill.c bpinit_judge.c
	bpinit_look.c bpinit_orphan.c bpinit_bereft.c bpinit_restop.c bpinit_place.c
	bpinit_group.c bpinit_skel.c bpinit_wait.c bpinit_tree.c bpinit_lazy.c bpinit_sent.c bpinit_used.c used.c procfile.c once.c
	pager.c pager_space.c pager_frame.c pager_right.c pager_child.c)
target_link_libraries(bpinit PRIVATE bproc_core vmadump_parts bproc_flags bproc_sanitize)
install(TARGETS bpinit DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/bproc)
