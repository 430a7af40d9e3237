# bpslave: one per machine. bpdata: its workers for TLS on data connections.
add_library(bpslave_parts STATIC stream.c bpslave_proc.c bpslave_scan.c bpslave_limits.c bpslave_hdr.c
	bpdata_frame.c filter_run.c used.c procfile.c)
target_link_libraries(bpslave_parts PUBLIC bproc_net bproc_flags bproc_sanitize)

add_executable(bpslave bpslave.c bpslave_loop.c bpslave_master.c bpslave_init.c bpslave_heard.c bpslave_local.c bpslave_query.c bpslave_move.c bpslave_again.c bpslave_after.c
	bpslave_grant.c bpslave_asks.c bpslave_filter.c bpslave_target.c bpslave_early.c bpslave_ask.c bpslave_chain.c bpslave_start.c bpslave_data.c bpslave_out.c
	bpslave_tls.c bpslave_peer.c bpslave_stdio.c bpslave_stdio_fd.c bpslave_stdio_home.c bpslave_stdio_node.c
	bpslave_stdio_lost.c bpslave_stdio_msg.c
	bpslave_stdio_turn.c
	bpslave_event.c bpslave_exec.c bpslave_kill.c bpslave_stats.c
	bpslave_born.c bpslave_all.c bpslave_away.c bpslave_tell.c bpslave_look.c bpslave_place.c bpslave_source.c
	bpslave_tree.c bpslave_zombies.c)
target_link_libraries(bpslave PRIVATE bpslave_parts vmadump_parts)
if(TARGET bpf_events)
	target_link_libraries(bpslave PRIVATE bpf_events)
endif()
# An installed tree may be another than was configured (--prefix, DESTDIR, mv).
file(RELATIVE_PATH libexec_beside ${CMAKE_INSTALL_FULL_SBINDIR} ${CMAKE_INSTALL_FULL_LIBEXECDIR}/bproc)
target_compile_definitions(bpslave PRIVATE BPROC_VERSION="${PROJECT_VERSION}"
	BPROC_LIBEXECDIR="${CMAKE_INSTALL_FULL_LIBEXECDIR}/bproc"
	BPROC_LIBEXEC_BESIDE="${libexec_beside}")

add_executable(bpdata bpdata.c bpdata_io.c bpdata_back.c bpdata_frame.c bpdata_in.c bpdata_page.c
	bpdata_keys.c pager.c pager_space.c pager_frame.c pager_right.c)
target_link_libraries(bpdata PRIVATE bproc_net bproc_flags bproc_sanitize)

install(TARGETS bpslave DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(TARGETS bpdata DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/bproc)
