# bplab: a whole cluster on one machine. Needs nothing of the library but its core.
add_executable(bplab bplab.c bplab_client.c bplab_ctl.c bplab_env.c bplab_lab.c bplab_net.c
	bplab_outer.c bplab_place.c bplab_setup.c bplab_user.c bplab_util.c bplab_wait.c)
target_compile_definitions(bplab PRIVATE BPROC_PROJECT_VERSION="${PROJECT_VERSION}")
target_link_libraries(bplab PRIVATE bproc_core)
install(TARGETS bplab RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
