# Tests on a real cluster, made by bplab for each of them. What runs on the front
# end is a shell script of this folder, or a program of it (lab_NAME).
set(lab_dir ${CMAKE_CURRENT_LIST_DIR})
set(lab_programs ${PROJECT_BINARY_DIR}/test/lab)

add_test(NAME daemon.bplab COMMAND ${lab_dir}/bplab.sh ${PROJECT_BINARY_DIR})
set_tests_properties(daemon.bplab PROPERTIES LABELS daemon TIMEOUT 120 SKIP_RETURN_CODE 77
	RESOURCE_LOCK lab)

if(NOT TARGET bplab OR NOT TARGET bpslave OR NOT TARGET bpmaster OR NOT TARGET bpsh)
	message(STATUS "no tests on a lab: a program of the cluster is not built")
	return()
endif()

# The sanitizers' libraries are not installed with ours.
if(NOT BPROC_SANITIZE)
	add_test(NAME daemon.installed
		COMMAND ${lab_dir}/installed.sh ${PROJECT_BINARY_DIR} ${PROJECT_SOURCE_DIR})
	set_tests_properties(daemon.installed PROPERTIES LABELS daemon TIMEOUT 150
		SKIP_RETURN_CODE 77 PROCESSORS 2 RESOURCE_LOCK lab)
endif()

# Moved programs: plain, never instrumented, each dynamic and static.
foreach(source rfork nest roam exec signals errors odd many hop family broken matrix matrix_io storm
		kills again asked lazy places kin filtered ghosts_wait used own_signals)
	foreach(kind dynamic static)
		set(name lab_${source}_${kind})
		add_executable(${name} ${lab_dir}/${source}.c)
		set_target_properties(${name} PROPERTIES
			RUNTIME_OUTPUT_DIRECTORY ${lab_programs}
			OUTPUT_NAME ${source}_${kind})
		target_link_libraries(${name} PRIVATE bproc_flags m)
		target_compile_options(${name} PRIVATE -O1 -g)
		if(kind STREQUAL static)
			target_link_libraries(${name} PRIVATE bproc_static -static)
		else()
			target_link_libraries(${name} PRIVATE bproc)
		endif()
	endforeach()
endforeach()

# It is traced when it says that it leaves, which the sanitizers do not bear.
add_executable(lab_hostile ${lab_dir}/hostile.c ${lab_dir}/hostile_move.c
	${lab_dir}/hostile_stubborn.c ${PROJECT_SOURCE_DIR}/libbproc/err.c
	${PROJECT_SOURCE_DIR}/libbproc/sysio.c)
set_target_properties(lab_hostile PROPERTIES
	RUNTIME_OUTPUT_DIRECTORY ${lab_programs} OUTPUT_NAME hostile)
target_link_libraries(lab_hostile PRIVATE bproc_flags)

add_executable(lab_arrange ${lab_dir}/arrange/arrange.c ${lab_dir}/arrange/pool.c
	${lab_dir}/arrange/generate.c ${lab_dir}/arrange/stage.c ${lab_dir}/arrange/expect.c
	${lab_dir}/arrange/actor.c ${lab_dir}/arrange/script.c)
set_target_properties(lab_arrange PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${lab_programs}
	OUTPUT_NAME arrange)
target_link_libraries(lab_arrange PRIVATE bproc_flags bproc_static -static)
target_compile_options(lab_arrange PRIVATE -O1 -g)

add_executable(lab_live ${lab_dir}/live.c)
set_target_properties(lab_live PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${lab_programs}
	OUTPUT_NAME live)
target_link_libraries(lab_live PRIVATE bproc_flags pthread)

# lab_test(LABEL.NAME NODES SECONDS [USER] [WAITS] [OPTS bplab options] COMMAND what to run there)
# WAITS: for a clock or a wake-up, most of the time (under half a processor was seen): beside another.
function(lab_test name nodes seconds)
	cmake_parse_arguments(PARSE_ARGV 3 arg "USER;WAITS" "" "OPTS;COMMAND;LABELS")
	string(REGEX REPLACE "\\..*" "" label ${name})
	set(user root)
	if(arg_USER)
		set(user user)
	endif()
	add_test(NAME ${name} COMMAND ${lab_dir}/run.sh ${PROJECT_BINARY_DIR} ${user} ${seconds}
		${nodes} ${arg_OPTS} -- ${arg_COMMAND})
	math(EXPR limit "${seconds} + 20")
	set_tests_properties(${name} PROPERTIES LABELS "${label};${arg_LABELS}"
		TIMEOUT ${limit} SKIP_RETURN_CODE 77)
	if(NOT arg_WAITS) # one at a time: a lab uses every processor there is
		set_tests_properties(${name} PROPERTIES PROCESSORS 2 RESOURCE_LOCK lab)
	endif()
endfunction()

set(quick OPTS -o pingtimeout=3)
lab_test(daemon.states 3 120 WAITS ${quick} COMMAND ${lab_dir}/states.sh)
lab_test(daemon.restart 2 120 ${quick} COMMAND ${lab_dir}/restart.sh)
lab_test(move.bpmove 2 240 WAITS ${quick} COMMAND ${lab_dir}/bpmove.sh ${PROJECT_BINARY_DIR}/bin)
lab_test(move.locks 2 120 ${quick} COMMAND ${lab_dir}/locks.sh)
lab_test(move.filters 2 120 ${quick} COMMAND ${lab_dir}/filters.sh ${lab_programs})
lab_test(move.tree 2 240 ${quick} COMMAND ${lab_dir}/tree.sh)
lab_test(move.tree_faults 2 120 WAITS ${quick} COMMAND ${lab_dir}/tree_faults.sh)
lab_test(move.tree_redis 2 240 WAITS ${quick} COMMAND ${lab_dir}/tree_redis.sh)
lab_test(move.tree_work 2 240 ${quick} COMMAND ${lab_dir}/tree_work.sh)
lab_test(move.work 2 240 ${quick} COMMAND ${lab_dir}/work.sh ${PROJECT_SOURCE_DIR}/test/unit)
lab_test(move.lazy 2 300 ${quick} COMMAND ${lab_dir}/lazy.sh 4)
lab_test(move.lazy_plain 2 180 ${quick} -o imageencryption=no COMMAND ${lab_dir}/lazy.sh 4)
lab_test(move.lazy_no 2 60 ${quick} COMMAND ${lab_dir}/lazy.sh no)
set_tests_properties(move.lazy_no PROPERTIES ENVIRONMENT BPROC_NO_USERFAULTFD=1)
lab_test(move.live 2 360 ${quick} COMMAND ${lab_dir}/live.sh ${lab_programs}/live)
lab_test(daemon.hostile 2 150 WAITS COMMAND ${lab_dir}/hostile.sh)
lab_test(daemon.silent 2 60 COMMAND sh -c
	"\"$1\" silent 0 && \"$1\" silent 1 && bpsh 0 true && bpsh 1 true" - ${lab_programs}/hostile)
set_tests_properties(daemon.silent PROPERTIES ENVIRONMENT BPROC_IMAGE_MS=500)
lab_test(move.data 2 120 ${quick} COMMAND ${lab_dir}/data.sh)
lab_test(move.data_plain 2 120 ${quick} -o imageencryption=no COMMAND ${lab_dir}/data.sh plain)
lab_test(daemon.refused 2 120 WAITS ${quick} COMMAND ${lab_dir}/refused.sh)

foreach(kind dynamic static)
	lab_test(move.rfork_${kind} 3 60 COMMAND ${lab_programs}/rfork_${kind})
	lab_test(move.nest_${kind} 2 20 COMMAND ${lab_programs}/nest_${kind})
	lab_test(move.roam_${kind} 2 60 COMMAND ${lab_programs}/roam_${kind})
	lab_test(move.exec_${kind} 2 60 COMMAND ${lab_programs}/exec_${kind})
	lab_test(move.signals_${kind} 2 40 COMMAND ${lab_programs}/signals_${kind})
	lab_test(move.errors_${kind} 3 60 WAITS ${quick} COMMAND ${lab_programs}/errors_${kind})
	lab_test(move.odd_${kind} 2 60 COMMAND ${lab_programs}/odd_${kind})
endforeach()
foreach(source auto poll)
	lab_test(move.family_${source} 2 60 OPTS -o eventsource=${source}
		COMMAND ${lab_programs}/family_static)
endforeach()
lab_test(move.asked 2 280 WAITS ${quick} COMMAND ${lab_programs}/asked_static)
lab_test(move.again 3 90 COMMAND ${lab_programs}/again_static)
lab_test(move.own_signals 2 60 COMMAND ${lab_programs}/own_signals_dynamic)
lab_test(move.used_ebpf 2 60 COMMAND ${lab_programs}/used_static)
lab_test(move.used_poll 2 60 OPTS -o eventsource=poll COMMAND ${lab_programs}/used_dynamic /proc)
lab_test(move.ghosts_wait 2 60 COMMAND ${lab_programs}/ghosts_wait_static)
lab_test(move.places 2 90 COMMAND ${lab_programs}/places_static)
lab_test(move.kills 2 90 COMMAND ${lab_programs}/kills_dynamic)
lab_test(move.kills_wait 1 120 COMMAND ${lab_dir}/kills.sh)
lab_test(move.kills_no 1 60 OPTS -o killfromnodes=no COMMAND ${lab_dir}/kills.sh no)
lab_test(move.reaped 1 240 WAITS ${quick} COMMAND ${lab_dir}/reaped.sh)
# Plays of a parent and one, two or three children, a part of their arrangements; ./dev arrange
# acts all of them, or another part.
lab_test(move.arrange 3 280 COMMAND ${lab_programs}/arrange --part 0/250
	one two three waits waits_any waits_group killed termed faults execs stops stops_self
	parent_killed parent_death kills zombie_moves stop_moves seen_moves parent_moves
	child_moves fork_moves
	two_exit two_kill_group two_stop two_kills three_exit three_group)
lab_test(move.arrange_exit 3 120 COMMAND ${lab_programs}/arrange exit)
lab_test(move.arrange_groups 3 170 COMMAND ${lab_programs}/arrange groups sessions parent_groups
	joins orphan orphan_stopped orphan_moves stopped_parent)
lab_test(move.plain_data 2 60 OPTS -o imageencryption=no COMMAND ${lab_programs}/roam_static)
lab_test(move.many 4 60 COMMAND ${lab_programs}/many_static)
lab_test(move.stdio 2 180 WAITS COMMAND ${lab_dir}/stdio.sh)
lab_test(move.ends 2 120 WAITS ${quick} COMMAND ${lab_dir}/ends.sh)
lab_test(move.bpsh 3 120 COMMAND ${lab_dir}/bpsh.sh)
lab_test(move.rsh 3 90 COMMAND ${lab_dir}/rsh.sh)
lab_test(move.ps 2 120 ${quick} COMMAND ${lab_dir}/ps.sh)
lab_test(move.trace 2 90 WAITS COMMAND ${lab_dir}/trace.sh)
lab_test(move.terminal 2 60 WAITS OPTS -t COMMAND ${lab_dir}/terminal.sh)
lab_test(move.crash 3 180 WAITS ${quick} COMMAND ${lab_dir}/crash.sh)
lab_test(daemon.matrix 3 150 WAITS OPTS -o pingtimeout=2 COMMAND ${lab_programs}/matrix_static)
# All of its rows, which take the time of this one: ./dev matrix.
lab_test(daemon.matrix_io 3 100 OPTS -o pingtimeout=2
	COMMAND ${lab_programs}/matrix_io_static "power of n0 lost")
lab_test(daemon.matrix_killed 3 120 OPTS -o pingtimeout=2
	COMMAND ${lab_programs}/matrix_io_static "bpslave of n0 killed" "bpinit of n0 killed"
	"bpinit at home killed")
lab_test(daemon.broken 2 120 WAITS OPTS -o pingtimeout=2 COMMAND ${lab_programs}/broken_static)
lab_test(move.examples 4 120 COMMAND ${lab_dir}/examples.sh)
lab_test(move.user 2 120 USER COMMAND ${lab_dir}/user.sh)
foreach(source auto poll)
	lab_test(move.lease_${source} 2 150 WAITS OPTS -o pidslot=1024 -o eventsource=${source}
		COMMAND ${lab_dir}/lease.sh static)
endforeach()
lab_test(move.crowd 1 200 COMMAND ${PROJECT_BINARY_DIR}/bin/bench_crowd 0 10000)
lab_test(move.crowd_poll 1 200 OPTS -o eventsource=poll
	COMMAND ${PROJECT_BINARY_DIR}/bin/bench_crowd 0 2000)
lab_test(move.born 2 120 WAITS COMMAND ${lab_dir}/born.sh)
lab_test(move.dying 1 60 WAITS COMMAND ${lab_dir}/dying.sh)
lab_test(move.born_away 1 60 WAITS COMMAND ${lab_dir}/born_away.sh)
lab_test(move.born_poll 2 120 WAITS OPTS -o eventsource=poll COMMAND ${lab_dir}/born.sh /proc)
foreach(source auto poll)
	lab_test(move.born_restart_${source} 1 120 ${quick} -o eventsource=${source}
		COMMAND ${lab_dir}/born_restart.sh)
endforeach()
