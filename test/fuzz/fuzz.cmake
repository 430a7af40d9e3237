# Fuzz targets. Always: unit.fuzz_NAME, which replays what is kept in corpus/NAME.
# With BPROC_FUZZ (clang): fuzz_NAME, linked with libFuzzer; ./dev fuzz runs them.
set(fuzz_dir ${CMAKE_CURRENT_LIST_DIR})
set(blob_dir ${PROJECT_SOURCE_DIR}/vmadump/blob)

# The blob's reader of images, hosted: its own memcpy() and arena stay out of the way.
add_library(fuzz_blob OBJECT ${fuzz_dir}/image.c ${blob_dir}/lib.c ${blob_dir}/restore.c
	${blob_dir}/restore_parse.c ${blob_dir}/restore_parse_obj.c
	${blob_dir}/restore_parse_tree.c ${blob_dir}/restore_place.c
	${blob_dir}/restore_vdso.c ${blob_dir}/restore_live.c ${blob_dir}/live_take.c)
set_source_files_properties(${blob_dir}/lib.c TARGET_DIRECTORY fuzz_blob PROPERTIES
	COMPILE_DEFINITIONS "arena_raw=blob_arena_raw;arena_alloc=blob_arena_alloc;arena_reset=blob_arena_reset;arena_grow=blob_arena_grow;arena_shrink=blob_arena_shrink;arena_release=blob_arena_release;memcpy=blob_memcpy;memmove=blob_memmove;memset=blob_memset;memcmp=blob_memcmp")
target_link_libraries(fuzz_blob PRIVATE bproc_flags bproc_sanitize PkgConfig::PROTOBUF_C)
target_compile_options(fuzz_blob PRIVATE -fno-strict-aliasing)

set(fuzz_targets wire data text stream image master pager live)
foreach(name ${fuzz_targets})
	add_library(fuzz_${name}_parts INTERFACE)
	target_sources(fuzz_${name}_parts INTERFACE ${fuzz_dir}/message.c)
	if(name STREQUAL image)
		target_sources(fuzz_${name}_parts INTERFACE $<TARGET_OBJECTS:fuzz_blob>)
	else()
		target_sources(fuzz_${name}_parts INTERFACE ${fuzz_dir}/${name}.c)
	endif()
	target_link_libraries(fuzz_${name}_parts INTERFACE bpslave_parts bproc_sanitize)
endforeach()
target_sources(fuzz_pager_parts INTERFACE ${PROJECT_SOURCE_DIR}/slaved/pager_frame.c)
target_sources(fuzz_live_parts INTERFACE ${blob_dir}/live_take.c)
target_link_libraries(fuzz_master_parts INTERFACE master_io)
target_link_options(fuzz_master_parts INTERFACE LINKER:--wrap=clock_ns)

if(BPROC_FUZZ)
	add_custom_target(fuzzers)
endif()
foreach(name ${fuzz_targets})
	add_executable(test_fuzz_${name} ${fuzz_dir}/replay.c)
	target_link_libraries(test_fuzz_${name} PRIVATE fuzz_${name}_parts)
	add_test(NAME unit.fuzz_${name}
		COMMAND test_fuzz_${name} ${fuzz_dir}/corpus/${name})
	set_tests_properties(unit.fuzz_${name} PROPERTIES LABELS unit TIMEOUT 120)
	if(BPROC_FUZZ)
		add_executable(fuzz_${name})
		target_link_libraries(fuzz_${name} PRIVATE fuzz_${name}_parts)
		target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
		set_target_properties(fuzz_${name} PROPERTIES LINKER_LANGUAGE C)
		add_dependencies(fuzzers fuzz_${name})
	endif()
endforeach()
