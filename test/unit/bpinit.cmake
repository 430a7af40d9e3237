# bpinit against a synthetic bpslave. What is moved is never instrumented.
if(TARGET bpinit)
	add_library(bpinit_rig OBJECT ${CMAKE_CURRENT_LIST_DIR}/bpinit_rig.c
		${CMAKE_CURRENT_LIST_DIR}/bpinit_rig_trip.c
		${CMAKE_CURRENT_LIST_DIR}/bpinit_rig_look.c)
	target_link_libraries(bpinit_rig PRIVATE bproc_flags vmadump_parts)
	foreach(what ghost move abort killed stream node fence place home sent child stops)
		add_executable(bpinit_${what} ${CMAKE_CURRENT_LIST_DIR}/bpinit_${what}.c
			${PROJECT_SOURCE_DIR}/libbproc/sysio.c $<TARGET_OBJECTS:bpinit_rig>)
		target_link_libraries(bpinit_${what} PRIVATE bproc_flags vmadump_parts)
		add_test(NAME unit.bpinit_${what} COMMAND bpinit_${what})
		set_tests_properties(unit.bpinit_${what} PROPERTIES LABELS "unit;root" TIMEOUT 120
			SKIP_RETURN_CODE 77 ENVIRONMENT BPINIT=$<TARGET_FILE:bpinit>)
	endforeach()
	add_executable(bpinit_once ${CMAKE_CURRENT_LIST_DIR}/bpinit_once.c
		${PROJECT_SOURCE_DIR}/slaved/once.c)
	target_link_libraries(bpinit_once PRIVATE bproc_flags bproc_sanitize PkgConfig::CHECK)
	add_test(NAME unit.bpinit_once COMMAND bpinit_once)
	set_tests_properties(unit.bpinit_once PROPERTIES LABELS unit TIMEOUT 60)
	# The moved programs of a sanitized build have no sanitizer, so this holds there too.
	add_test(NAME unit.bpinit_weight COMMAND bpinit_stream weight)
	set_tests_properties(unit.bpinit_weight PROPERTIES LABELS "unit;root" TIMEOUT 120
		SKIP_RETURN_CODE 77 ENVIRONMENT BPINIT=$<TARGET_FILE:bpinit>)
endif()
