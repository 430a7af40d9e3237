add_library(bproc_net STATIC log.c keyfile.c wire.c link.c link_send.c link_tls.c config.c
	daemon.c fault.c)
target_link_libraries(bproc_net PUBLIC bproc_core bproc_proto OpenSSL::SSL OpenSSL::Crypto
	PkgConfig::LIBEVENT)
