// SPDX-License-Identifier: LGPL-2.1-or-later
// The state on its way through libvirt, by its test driver, which needs no daemon: what is set comes out of
// the domain's XML, and out of virDomainGetMetadata, as the same.
#include "cli/libvirt_guest.h"
#include "domain/domain_xml.h"
#include "domain/state.h"

#include <cstdlib>
#include <memory>
#include <string>

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <libvirt/libvirt.h>

#include "support/example_hosts.h"
#include "support/host_builder.h"

namespace vfioap {
namespace {

class StateInLibvirt : public testing::Test {
  protected:
    void SetUp() override {
        library_ = ::dlopen(libvirt_library, RTLD_NOW | RTLD_LOCAL);
        if (library_ == nullptr) GTEST_SKIP() << libvirt_library << " is not installed: " << ::dlerror();
        connection_ = load<decltype(&virConnectOpen)>("virConnectOpen")("test:///default");
        ASSERT_NE(connection_, nullptr);
        domain_ = load<decltype(&virDomainLookupByName)>("virDomainLookupByName")(connection_, "test");
        ASSERT_NE(domain_, nullptr);
    }
    void TearDown() override {
        if (domain_ != nullptr) load<decltype(&virDomainFree)>("virDomainFree")(domain_);
        if (connection_ != nullptr) load<decltype(&virConnectClose)>("virConnectClose")(connection_);
    }

    /// Never closed: libvirt starts threads that must not outlive its code.
    template <typename Function>
    Function load(const char* name) {
        return reinterpret_cast<Function>(::dlsym(library_, name));
    }
    int set(const std::string& text) {
        const auto set_metadata = load<decltype(&virDomainSetMetadata)>("virDomainSetMetadata");
        return set_metadata(domain_, VIR_DOMAIN_METADATA_ELEMENT, text.c_str(),
                            std::string{state_key}.c_str(), std::string{state_namespace}.c_str(),
                            VIR_DOMAIN_AFFECT_LIVE);
    }
    static std::string taken(char* text) {
        const std::unique_ptr<char, void (*)(void*)> owner{text, std::free};
        return text == nullptr ? std::string{} : text;
    }
    std::string domain_xml() {
        return taken(load<decltype(&virDomainGetXMLDesc)>("virDomainGetXMLDesc")(domain_, 0));
    }
    std::string metadata() {
        return taken(load<decltype(&virDomainGetMetadata)>("virDomainGetMetadata")(
            domain_, VIR_DOMAIN_METADATA_ELEMENT, std::string{state_namespace}.c_str(),
            VIR_DOMAIN_AFFECT_LIVE));
    }

    void* library_ = nullptr;
    virConnectPtr connection_ = nullptr;
    virDomainPtr domain_ = nullptr;
};

TEST_F(StateInLibvirt, comes_out_as_it_went_in_and_below_the_limit) {
    DomainState state{test::uuid(test::example_mdev), "lpar <&> \"1\" 'x'", "l3", true, {}};
    state.configuration.control_domains = Mask::of({4, 0x47});
    // Without queues, with few, and with all that there can be, each of its own kind.
    for (const unsigned count : {0U, 5U, ap_queues}) {
        for (auto i = static_cast<unsigned>(state.configuration.queues.size()); i < count; ++i) {
            state.configuration.queues.push_back(
                {Apqn::from_number(static_cast<std::uint16_t>(i)), Hwinfo{i * 0x9e3779b97f4a7c15},
                 i < 1000 ? std::make_shared<const MasterKeys>(test::cca_keys(i)) : nullptr});
        }
        const auto written = parse_state(state_metadata(state), "written");
        ASSERT_EQ(set(state_metadata(state)), 0);
        const auto domain = parse_domain_xml(domain_xml(), "domain");
        ASSERT_TRUE(domain.state) << domain.state_error;
        EXPECT_EQ(*domain.state, written);
        EXPECT_EQ(parse_state(metadata(), "metadata"), written);
        const auto with = domain_xml();
        const auto begin = with.find("<metadata>");
        EXPECT_LT(with.find("</metadata>") - begin, state_max_bytes);
    }
}

TEST_F(StateInLibvirt, is_not_taken_with_its_own_declaration_of_the_prefix) {
    EXPECT_EQ(set(state_element({test::uuid(test::example_mdev), "h", "l3", false, {}})), -1);
}

}  // namespace
}  // namespace vfioap
