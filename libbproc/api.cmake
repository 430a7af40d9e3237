# libbproc as it is installed. Its code runs inside every process that moves, so
# the installed library is never instrumented; unit tests of a sanitizer build
# link bproc_checked, the same sources with the sanitizers.
set(api_sources
	err.c sysio.c client.c client_reach.c
	api_misc.c api_node.c api_nodeset.c api_proc.c api_move.c api_filters.c api_movepid.c
	api_threads.c api_exec.c api_wait.c)
set(api_version_script ${CMAKE_CURRENT_SOURCE_DIR}/libbproc.map)

add_library(bproc_objects OBJECT ${api_sources})
target_link_libraries(bproc_objects PRIVATE bproc_flags)
target_compile_definitions(bproc_objects PRIVATE BPROC_VERSION="${PROJECT_VERSION}")
target_compile_options(bproc_objects PRIVATE -ffunction-sections -fdata-sections)

set(api_headers ${PROJECT_SOURCE_DIR}/include/bproc.h
	${PROJECT_SOURCE_DIR}/include/sys/bproc.h
	${PROJECT_SOURCE_DIR}/include/sys/bproc_common.h)

# The archive holds one object whose only global names are those of the API: a
# program may have a close_fd() of its own.
add_custom_command(
	OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/bproc_one.o
	COMMAND ${CMAKE_LINKER} -r -o ${CMAKE_CURRENT_BINARY_DIR}/bproc_one.o
		$<TARGET_OBJECTS:bproc_objects> $<TARGET_OBJECTS:vmadump_objs>
	COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${CMAKE_CURRENT_BINARY_DIR}/bproc_one.o
	DEPENDS bproc_objects $<TARGET_OBJECTS:bproc_objects> $<TARGET_OBJECTS:vmadump_objs>
	COMMAND_EXPAND_LISTS VERBATIM)

add_library(bproc SHARED $<TARGET_OBJECTS:bproc_objects> $<TARGET_OBJECTS:vmadump_objs>)
add_library(bproc_static STATIC ${CMAKE_CURRENT_BINARY_DIR}/bproc_one.o)
set_target_properties(bproc PROPERTIES
	VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
	LINK_DEPENDS ${api_version_script})
target_link_options(bproc PRIVATE
	-Wl,--version-script=${api_version_script} -Wl,-z,defs -Wl,--gc-sections)
set_target_properties(bproc_static PROPERTIES OUTPUT_NAME bproc)
foreach(lib bproc bproc_static)
	target_sources(${lib} PUBLIC FILE_SET HEADERS
		BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${api_headers})
	set_target_properties(${lib} PROPERTIES LINKER_LANGUAGE C)
	add_library(bproc::${lib} ALIAS ${lib})
endforeach()

if(BPROC_SANITIZE)
	add_library(bproc_checked STATIC ${api_sources} $<TARGET_OBJECTS:vmadump_objs>)
	target_link_libraries(bproc_checked PUBLIC bproc_flags bproc_sanitize)
	target_compile_definitions(bproc_checked PRIVATE BPROC_VERSION="${PROJECT_VERSION}")
else()
	add_library(bproc_checked ALIAS bproc_static)
endif()

# -- installing

install(TARGETS bproc bproc_static vmadump EXPORT bprocTargets
	LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
	ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
	FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/bproc)
install(EXPORT bprocTargets NAMESPACE bproc:: DESTINATION ${package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/packaging/bprocConfig.cmake.in
	${CMAKE_CURRENT_BINARY_DIR}/bprocConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/bprocConfigVersion.cmake
	COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/bprocConfig.cmake
	${CMAKE_CURRENT_BINARY_DIR}/bprocConfigVersion.cmake DESTINATION ${package_dir})

# Two .pc for each library. One is for what is installed, relative to itself so that the tree may be
# moved, and right as well where a directory was given as an absolute path; the other for the build
# tree, in lib/pkgconfig there.
cmake_path(SET pc_dir NORMALIZE "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
if(IS_ABSOLUTE "${pc_dir}")
	set(pc_top ${CMAKE_INSTALL_PREFIX})
else()
	file(RELATIVE_PATH up /${pc_dir} /)
	string(REGEX REPLACE "/$" "" up ${up})
	set(pc_top \${pcfiledir}/${up})
endif()

function(write_pc PC_NAME PC_DESCRIPTION rpath)
	set(PC_PREFIX ${pc_top})
	set(PC_LIBDIR \${prefix})
	cmake_path(APPEND PC_LIBDIR ${CMAKE_INSTALL_LIBDIR})
	set(PC_INCLUDEDIR \${prefix})
	cmake_path(APPEND PC_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
	set(PC_RPATH "")
	set(installed ${CMAKE_CURRENT_BINARY_DIR}/${PC_NAME}.pc)
	configure_file(${PROJECT_SOURCE_DIR}/packaging/library.pc.in ${installed} @ONLY)
	install(FILES ${installed} DESTINATION ${pc_dir})

	set(PC_PREFIX ${PROJECT_BINARY_DIR})
	set(PC_LIBDIR \${prefix}/lib)
	set(PC_INCLUDEDIR ${PROJECT_SOURCE_DIR}/include)
	set(PC_RPATH "${rpath}")
	configure_file(${PROJECT_SOURCE_DIR}/packaging/library.pc.in
		${PROJECT_BINARY_DIR}/lib/pkgconfig/${PC_NAME}.pc @ONLY)
endfunction()
write_pc(bproc "Processes of this machine that run on other machines" "-Wl,-rpath,\${libdir} ")
write_pc(vmadump "Processes as images, in and out" "")
